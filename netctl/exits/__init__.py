"""Where keys come out: netctl's own look through a tunnel, and its judgement of what workers say."""
