"""Files that survive a crash, know whether they are whole, and stay inside of their run's folder."""
