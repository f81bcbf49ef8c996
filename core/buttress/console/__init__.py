"""What a person at a terminal sees, whatever the text holds and whatever becomes of the terminal. Loads no torch."""
