"""The queue and the fleet for people in a browser, for programs as JSON; and jobs over HTTP."""
