"""Files that survive a crash, whose damage is detected, and that stay inside of the folder of their run."""
