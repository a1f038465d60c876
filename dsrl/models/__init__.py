"""The embedded tiny model, and the script that made it."""
