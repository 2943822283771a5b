"""The subcommands of `simscale`; importing a module registers its commands."""
