"""What has to reach somebody else: kept with the end of the run, sent a few at a time, told once or more."""
