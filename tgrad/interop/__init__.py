"""Where tgrad meets other frameworks. Nothing here is loaded by `import tgrad`."""
