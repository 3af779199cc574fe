"""The Gateway API's words for KubeRay's upgrades in steps: said of the proxy itself, since it sends the requests."""
