"""Changes the attributes of records."""
