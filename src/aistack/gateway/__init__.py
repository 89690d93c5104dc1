"""The custom API between proxy and engines: authenticate, choose a node, relay or translate, stream back."""
