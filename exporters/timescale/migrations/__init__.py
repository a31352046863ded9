"""The schema's migrations, in the order in which they apply."""
