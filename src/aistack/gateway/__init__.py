"""The custom API between the proxy and the engines: authenticate, choose a node, relay or translate, stream back."""
