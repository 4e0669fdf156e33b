"""Groups of commands, one file each, and the options that commands share; `cli` puts them together."""
