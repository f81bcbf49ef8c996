"""A model that leaves buttress, and what is said about it."""
