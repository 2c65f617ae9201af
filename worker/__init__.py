"""The process of one worker: its own UID, its own tunnel, its own Chrome, one loop after another."""
