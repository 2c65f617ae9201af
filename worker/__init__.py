"""The program of one worker: under its own UID, with its own tunnel and Chrome, it does one loop after another."""
