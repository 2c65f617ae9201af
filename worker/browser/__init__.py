"""Chrome behind one small interface, for both drivers; selenium is imported only here."""
