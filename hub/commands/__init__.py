"""The commands `fleet db|job|result|site`: each opens the database itself, and tells a running hub to look."""
