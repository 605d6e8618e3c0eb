"""tenfold grows one Python web service from a single server to millions of users: what an app imports."""
