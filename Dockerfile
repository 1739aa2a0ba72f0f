# The images of Passbook: a target for each program.
#
#   make images                              all images, with docker, podman or buildah
#   docker build --target account-service .  one image
#
# An image adds only the program to its base. It has no shell and needs none.
ARG RUST=docker.io/library/rust:1.95-bookworm
ARG BASE=gcr.io/distroless/cc-debian12:nonroot

# Dependencies first, in a layer of their own: it is rebuilt only when they change.
FROM ${RUST} AS chef
ARG CARGO_CHEF=0.1.78
# Without optimization: cargo-chef has little to do and compiles in a fraction of the time.
RUN cargo install --locked --debug cargo-chef@${CARGO_CHEF}
WORKDIR /passbook

FROM chef AS recipe
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY --from=recipe /passbook/recipe.json recipe.json
RUN cargo chef cook --release --locked --no-default-features --recipe-path recipe.json \
        --package account-service --package transaction-service --package report-service \
        --package webhook-service --package report-renderer --package passbook
COPY . .
RUN cargo build --release --locked --no-default-features \
        --package account-service --package transaction-service --package report-service \
        --package webhook-service --package report-renderer --package passbook \
    && install -Dt /programs \
        target/release/account-service target/release/transaction-service \
        target/release/report-service target/release/webhook-service \
        target/release/report-renderer target/release/passbook

FROM ${BASE} AS runtime
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.vendor="Passbook" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# As a number, since Kubernetes can't verify that a named user is not root.
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM

FROM runtime AS account-service
LABEL org.opencontainers.image.title="account-service" \
      org.opencontainers.image.description="Takes deposits and withdrawals over HTTP and settles their records"
COPY --from=build /programs/account-service /usr/local/bin/account-service
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/account-service"]

FROM runtime AS transaction-service
LABEL org.opencontainers.image.title="transaction-service" \
      org.opencontainers.image.description="Applies each deposit and withdrawal exactly once to the ledger"
COPY --from=build /programs/transaction-service /usr/local/bin/transaction-service
EXPOSE 9090
ENTRYPOINT ["/usr/local/bin/transaction-service"]

FROM runtime AS report-service
LABEL org.opencontainers.image.title="report-service" \
      org.opencontainers.image.description="Makes reports one at a time and keeps their files"
COPY --from=build /programs/report-service /usr/local/bin/report-service
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/report-service"]

FROM runtime AS webhook-service
LABEL org.opencontainers.image.title="webhook-service" \
      org.opencontainers.image.description="Delivers the event log to webhook endpoints, signed"
COPY --from=build /programs/webhook-service /usr/local/bin/webhook-service
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/webhook-service"]

FROM runtime AS report-renderer
LABEL org.opencontainers.image.title="report-renderer" \
      org.opencontainers.image.description="Renders reports as an HTTP function"
COPY --from=build /programs/report-renderer /usr/local/bin/report-renderer
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/report-renderer"]

FROM runtime AS passbook
LABEL org.opencontainers.image.title="passbook" \
      org.opencontainers.image.description="Passbook's command-line tool: migrates, verifies, repairs"
COPY --from=build /programs/passbook /usr/local/bin/passbook
ENTRYPOINT ["/usr/local/bin/passbook"]
