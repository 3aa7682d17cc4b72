"""What gunicorn reads from the folder that it is started in; command lines say only where to listen and how wide."""

worker_class = "gthread"
threads = 4
timeout = 60
# Seconds. Longer than a proxy keeps an idle connection (nginx 60, Caddy 120): whoever closes first must be the one who
# sends, or a request that was just on its way is lost with the connection.
keepalive = 130
# Its two logs are written as all our others are: words or JSON, each with the number of its request.
logger_class = "portal.access_log.Gunicorn"
# It would be a socket in a folder of the machine, which nothing here uses.
control_socket_disable = True
