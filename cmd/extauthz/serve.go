package main

import (
	"github.com/spf13/cobra"

	"extauthz/cmd/extauthz/signals"
	"extauthz/server"
)

func newServeCommand() *cobra.Command {
	f := &configFlags{}
	cmd := &cobra.Command{
		Use:   signals.Serve,
		Short: "Run the server",
		Long: `Run the external authorization server until SIGTERM or SIGINT. It then reports NOT_SERVING to
health checks, continues to serve for a while, and exits once the requests in flight are answered;
a second signal ends it at once. SIGHUP reloads the configuration and the keys, which are also
reloaded when their files change.

Either --config or --keys is required. Flags override the configuration file.

Exit codes: 0 after SIGTERM or SIGINT, 1 if it cannot start or cannot continue.`,
		Example: `  extauthz serve --keys keys.yaml
  extauthz serve --config extauthz.yaml --listen unix:/run/extauthz/extauthz.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := server.NewLogWriter(cmd.ErrOrStderr())
			defer log.Close()
			version, revision := buildVersion()
			err := server.Run(cmd.Context(), server.Options{
				Load: f.load, Log: log, Signals: signals.C, Version: version, Revision: revision,
			})
			if err != nil {
				printError(log, err) // and not to standard error, whose reader may hang
				return exitError(1)
			}
			return nil
		},
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&f.overrides.Listen, "listen", "l", "", "where to listen: host:port or unix:/path (default 127.0.0.1:9191)")
	cmd.Flags().StringVar(&f.overrides.Admin, "admin", "", "where to serve /healthz, /readyz and /metrics: host:port, unix:/path or none (default 127.0.0.1:9192)")
	return cmd
}
