"""Write a model that works without buttress, and the text about it."""
