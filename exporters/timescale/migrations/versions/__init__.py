"""One module a migration, its SQL beside it."""
