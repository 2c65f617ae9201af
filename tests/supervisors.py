"""How the configuration of a supervisord begins that tests start by itself."""

CONFIGURED = """
[unix_http_server]
file={socket}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
nodaemon=true
user=root
logfile={root}/supervisord.log
childlogdir={root}
pidfile={root}/supervisord.pid
"""
"""The rest of [supervisord], such as its environment, comes next."""
