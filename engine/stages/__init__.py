"""One verb a file: the only place where catalog and science meet."""
