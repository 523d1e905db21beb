"""The routes of the contract, one module for each group of them."""
