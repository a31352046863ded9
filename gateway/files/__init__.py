"""Files that outlast a crash and have one owner."""
