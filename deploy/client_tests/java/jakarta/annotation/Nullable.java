package jakarta.annotation;

/** Stands in for jakarta.annotation-api, which a project has from its build tool. */
public @interface Nullable {}
