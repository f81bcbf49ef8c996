"""Output for a person at a terminal, safe for any text and any state of the terminal. Loads no torch."""
