"""What people see of the queue and the fleet in a browser, and programs as JSON; and jobs that come over HTTP."""
