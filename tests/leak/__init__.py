"""Nothing leaves past a tunnel: every probe in every state, in both isolations, judged from outside of the host."""
