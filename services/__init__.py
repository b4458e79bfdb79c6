"""The services of Homeroom; they never import each other."""
