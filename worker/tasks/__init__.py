"""The tasks of a loop: `watch` and its presets are built in, others come by entry point or `module:function`."""
