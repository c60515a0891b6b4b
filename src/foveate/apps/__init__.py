"""The command line, the local page, the static page and pictures. Only here are optional packages imported."""
