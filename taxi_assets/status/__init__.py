"""Which months are where, and what is to be done about them."""
