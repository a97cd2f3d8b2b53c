"""How the work lies on devices and processes, and the programs that are compiled for them."""
