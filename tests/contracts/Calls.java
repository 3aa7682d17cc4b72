import java.io.FileInputStream;
import java.io.InputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.X509Certificate;
import java.util.List;
import java.util.Scanner;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;

/** Calls a server as a Java program does, one call a line: “keystore, password, alias or -, truststore, host, port”,
 * separated by tabs. Prints the body of each answer, which is one line. With an alias, that one is presented. */
class Calls {
    public static void main(String[] arguments) throws Exception {
        Scanner lines = new Scanner(System.in, StandardCharsets.UTF_8);
        while (lines.hasNextLine()) {
            String[] given = lines.nextLine().split("\t");
            System.out.println(call(given));
        }
    }

    private static String call(String[] given) {
        try {
            KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
            keys.init(store(given[0], given[1]), given[1].toCharArray());
            TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            trust.init(store(given[3], "changeit"));
            X509ExtendedKeyManager all = (X509ExtendedKeyManager) keys.getKeyManagers()[0];
            KeyManager chosen = given[2].equals("-") ? all : new Pinned(all, given[2]);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(new KeyManager[] {chosen}, trust.getTrustManagers(), null);
            Socket raw = new Socket("127.0.0.1", Integer.parseInt(given[5]));
            try (SSLSocket tls = (SSLSocket) context.getSocketFactory().createSocket(raw, given[4], 443, true)) {
                SSLParameters parameters = tls.getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                parameters.setServerNames(List.of(new SNIHostName(given[4])));
                tls.setSSLParameters(parameters);
                String request = "GET / HTTP/1.0\r\nHost: " + given[4] + "\r\n\r\n";
                tls.getOutputStream().write(request.getBytes(StandardCharsets.US_ASCII));
                String answer = new String(tls.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
                return answer.substring(answer.indexOf("\r\n\r\n") + 4).replace("\n", " ").strip();
            }
        } catch (Exception problem) {
            return problem.toString();
        }
    }

    private static KeyStore store(String path, String password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        try (InputStream file = new FileInputStream(path)) {
            store.load(file, password.toCharArray());
        }
        return store;
    }

    /** What an app does that reads targets.properties. */
    private static final class Pinned extends X509ExtendedKeyManager {
        private final X509ExtendedKeyManager all;
        private final String alias;

        Pinned(X509ExtendedKeyManager all, String alias) {
            this.all = all;
            // The factory numbers the aliases of a keystore: “1.0.bank”.
            String found = null;
            for (String type : new String[] {"RSA", "EC", "EdDSA"}) {
                String[] listed = all.getClientAliases(type, null);
                for (String one : listed == null ? new String[0] : listed) {
                    found = one.equals(alias) || one.endsWith("." + alias) ? one : found;
                }
            }
            this.alias = found;
        }

        public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
            return alias;
        }

        public String chooseEngineClientAlias(String[] types, Principal[] issuers, javax.net.ssl.SSLEngine engine) {
            return alias;
        }

        public String[] getClientAliases(String type, Principal[] issuers) {
            return alias == null ? null : new String[] {alias};
        }

        public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
            return null;
        }

        public String[] getServerAliases(String type, Principal[] issuers) {
            return null;
        }

        public X509Certificate[] getCertificateChain(String wanted) {
            return all.getCertificateChain(wanted);
        }

        public PrivateKey getPrivateKey(String wanted) {
            return all.getPrivateKey(wanted);
        }
    }
}
