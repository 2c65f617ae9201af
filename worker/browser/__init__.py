"""Chrome behind one small interface, whichever driver moves it; no other place imports selenium."""
