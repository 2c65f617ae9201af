"""What `fleet db|job|result|site` does, each with the database in its own hands; a hub that runs is told to look."""
