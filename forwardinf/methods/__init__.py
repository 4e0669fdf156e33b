"""How an example's losses before and after a mirrored step become its influence; one file per method."""
