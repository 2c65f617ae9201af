"""Nothing leaves past a tunnel: every probe in every state, in both isolations, observed from outside the host."""
