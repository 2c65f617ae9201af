"""The shop that the lab's workers visit: Korean, HTTPS, HTTP/2, many slow sub-resources."""
