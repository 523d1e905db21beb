"""`python -m deploy.command` is `tandem`."""

from deploy.command import main

main()
