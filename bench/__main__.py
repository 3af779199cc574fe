"""Run the proxy's benchmarks: python -m bench."""

from bench.propagation import main

main()
