"""The subcommands of `foveate`, one module each."""
