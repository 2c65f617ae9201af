"""The words of the program `fleet`, a file a noun; each adds its verbs to the parser."""
