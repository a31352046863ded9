"""Changes the attributes of resources."""
