"""WireGuard client files as users have them: reads them with bounds, decodes the text, splits it into sections."""
