"""What the gateway's API is, as an OpenAPI document and as a page for people: made from the table of routes."""
