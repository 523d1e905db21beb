"""One machine: the environment, the processes that make a running stack, and the `tandem` command."""
