"""One module per runtime. Each imports its runtime at the top: a child imports only the one it needs."""
