"""The demo's story on two data sets: a policy that earns its place, and honesty when the log cannot tell."""
