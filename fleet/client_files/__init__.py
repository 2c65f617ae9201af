"""WireGuard client files as people have them: read with bounds, as ordinary text, taken apart into sections."""
