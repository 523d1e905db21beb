"""The alignment tax: what a version can still do, against the one before it, on tasks with known answers."""
